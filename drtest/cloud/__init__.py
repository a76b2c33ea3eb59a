"""EC2, through boto3: the one room that speaks to the cloud."""
