"""The engineer's seat: what a person at a notebook is shown while a run goes on, and what can be done about it then."""
