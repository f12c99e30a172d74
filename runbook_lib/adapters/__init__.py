"""The only place that touches commands, HTTP, a service manager, a browser or a database; one narrow protocol each."""
