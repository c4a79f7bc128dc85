A VM starts only from an image that is published and not blocked, and the user is told why when there is none. `head`
and `default` are kept by the database; a node that does not see an image in its storage gets no VM that needs it.
VMs with an older image can be given a soft and a hard date of expiry (`hkd.expire.warning`), kept to the second.
