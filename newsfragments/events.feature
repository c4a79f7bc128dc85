Events: `GET /api/v1/events?topics=…` tells what changes as it changes, to each administrator what is theirs to see; it goes on where a lost connection was, for 15 minutes.
