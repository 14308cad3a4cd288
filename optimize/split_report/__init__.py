"""What ``user_once`` did to a ranker, for a person: tables, pictures, a page."""
