"""Who the load is made of: one small file for each way of using a deployment."""
