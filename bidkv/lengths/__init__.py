"""How long outputs will be: what admissions and victims that go by it share."""
