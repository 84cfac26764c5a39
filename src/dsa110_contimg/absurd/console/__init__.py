"""The queue at the terminal: `dsa110 absurd …`. One file per noun; `app.py` puts them together."""
