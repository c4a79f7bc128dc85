API tokens with the scope ``dangerous`` do what else needs the password again; they last a day at most, or what
``api.token.dangerous`` says, and 0 turns them off.
