"""Administration: operations and the REST API over them."""
