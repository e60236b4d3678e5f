"""The driver of the suite: measures commits side by side, writes asv's result files, and builds the site.

`worker` runs in the process that is measured; everything else runs beside it and imports no portable_nn.
"""
