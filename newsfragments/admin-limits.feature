The administration gives a request half a minute to come (`admin.timeout.request`), bounds what all requests hold together,
and finishes the calls that it is answering when it is stopped.
