-- Run once, when the server makes its data folder: Label Studio gets a database beside the ledger's.
CREATE DATABASE label_studio;
