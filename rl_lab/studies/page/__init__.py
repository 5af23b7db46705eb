"""The page of a comparison, and the files beside it: numbers, figures drawn twice, tables, and words."""
