"""The pages: what a run holds, looked at in a browser, served by the process that answers the API."""
