"""The queue of qmail: layout, states S1-S5, who writes what in which order."""
