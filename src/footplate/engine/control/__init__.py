"""Code that loops and savers share: requests, signals, the list of hooks, the process, the folder and the history."""
