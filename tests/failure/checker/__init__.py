"""Was anything lost, doubled, disordered or shown to the wrong person, whatever was broken meanwhile?"""
