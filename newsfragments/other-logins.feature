Administrators see and end the sessions and API tokens of others, reset a second factor that was lost, and have somebody
choose another password; nobody reaches an administrator who may do more than they do.
