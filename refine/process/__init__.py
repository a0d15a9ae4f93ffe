"""The process and the one that watches it: time limits, Ctrl-C, crashes. Imports nothing heavy."""
