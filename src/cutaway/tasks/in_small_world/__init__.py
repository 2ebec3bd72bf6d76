"""Tasks in the small world, drawn by the generator that made its text, with the same items withheld."""
