"""One module a page; each answers the question that is its title."""
