"""The storage, as the collection of garbage sees it: the only place that moves and removes what others have made."""
