"""Django's PostgreSQL, for people who do not want to wait for a database that is away."""
