"""What a log says of a mail system, in numbers and pictures: `pluq stats`.

files     which files, in the order of time
tally     counting, in bounded memory
bounded   counters and histograms that do not grow with the log
report    the numbers as text and as JSON
plot      the same as a picture
"""
