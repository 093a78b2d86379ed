"""qmail-send: preprocess, schedule, deliver, bounce."""
