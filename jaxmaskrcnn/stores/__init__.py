"""Files in object stores (gs://, s3://, ...): copied before they are read, sent when written."""
