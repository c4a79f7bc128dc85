"""Files and folders that users have a hand in, for drivers and storage."""
