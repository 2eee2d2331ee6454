"""Images explained to people: how two of them differ, what brought a file into one, and a page to look at."""
