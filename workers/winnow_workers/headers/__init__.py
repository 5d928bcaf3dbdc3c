"""What does a file claim before it is decoded? One module per format: `claim_of(data, limits)`, which never raises.

Whatever leaves the grammar ends the reading there; what is wrong is then said by the decoder.
"""
