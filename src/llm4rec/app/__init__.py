"""The application: command line, and later HTTP API and web pages."""
