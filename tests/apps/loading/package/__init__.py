"""Its application lies in a module that is called as applications are; the import makes that a name of the package."""

from .application import app as app
