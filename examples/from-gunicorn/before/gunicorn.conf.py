"""gunicorn's, as before/notes.service names it."""

bind = "unix:/run/notes/http"
workers = 2
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 30
keepalive = 75
worker_tmp_dir = "/dev/shm"
limit_request_line = 8190
accesslog = "/var/log/notes/access.log"
errorlog = "-"
proc_name = "notes"


def post_fork(server, worker):
    server.log.info("worker %s is there", worker.pid)
