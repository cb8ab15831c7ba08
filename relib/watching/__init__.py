"""Tells which files changed: events from the kernel or watchdog, or looking from time to time.

Why watchdog's observer is not the first choice: it starts a thread for each directory (and, before
its version 7, takes one of the 128 inotify instances that a user may have for each), while one
extension reads headers from a score of directories, and relib looks at the stack of every thread
when it unloads. It holds back a directory's events for half a second when a file is renamed out of
it (watchdog 7.1, observers/inotify_move_event_grouper.py), which is how Emacs and Vim make backups
in a directory of their own; and it tells nothing when the kernel's queue was too short. With
inotify, one descriptor and one thread do it all.
"""

from relib.watching.watcher import Watcher

__all__ = ["Watcher"]
