``create_auth_token`` issues bearer tokens: for one virtual machine or all, for one connection or many, for a day at most.
``authenticate_user`` tells a portal whether a login is good.
