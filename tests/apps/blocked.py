"""The suspending applications behind wsgi_plus.blocking."""

import suspend
from wsgi_plus import blocking

application = blocking(suspend.app)
