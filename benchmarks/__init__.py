"""Speed of this project against a named peer or floor, always in the same run; never part of the tests."""
