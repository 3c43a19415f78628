"""Cases out into the files of labelling tools, and labels back in from them."""
