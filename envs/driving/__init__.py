"""Driving robots from the browser: what moves them, the loop that keeps real time, and the page."""
