"""People in the loop: routing, sampling, and Label Studio both ways."""
