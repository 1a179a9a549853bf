"""One long study, watched for growth that should not be."""
