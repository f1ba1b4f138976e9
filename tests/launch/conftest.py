"""The programs that are launched here are no modules with examples in them."""

collect_ignore = ["programs"]
