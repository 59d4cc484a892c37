"""The application of the package."""

from loading.shop import Site

app = Site("of the package")
