from routes import text


def app(environ, start_response):
    return text(start_response, "app")
