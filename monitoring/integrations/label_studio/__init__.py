"""Label Studio, through its REST API. Checked against the server of version 1.23."""
