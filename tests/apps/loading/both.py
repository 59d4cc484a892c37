from routes import text


def application(environ, start_response):
    return text(start_response, "application")


def app(environ, start_response):
    return text(start_response, "app")
