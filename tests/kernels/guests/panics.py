"""Dies before its first word."""

raise SystemExit("the guest gives up")
