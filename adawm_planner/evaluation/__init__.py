"""Finished episodes in, comparable numbers out."""
