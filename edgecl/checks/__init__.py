"""What every implementation of a contract must satisfy; run by the tests over each registered name."""
