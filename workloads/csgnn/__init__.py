"""The plug-in ``csgnn``: graph networks over chordless cycles and induced paths."""
