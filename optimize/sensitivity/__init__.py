"""What each table, layer and field is worth: one changed at a time, then a joint choice."""
