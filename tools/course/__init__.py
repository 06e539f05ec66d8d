"""What is made of the notebooks besides themselves: the site (``make site``)."""
