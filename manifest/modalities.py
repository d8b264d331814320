"""Acquisition modalities (DICOM PS3.16 CID 29): what an eventCodeList may say of a study.

Objects that are derived or that describe others (SR, PR, KO, SEG, RTSTRUCT ...) are not in
the context group: they do not make a study one of "modality SR". Names as in the group,
which is also what the French value set JDV_ModaliteAcquisition_CISIS is drawn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ACQUISITION_MODALITIES: Mapping[str, str] = MappingProxyType(
    {
        "AR": "Autorefraction",
        "BDUS": "Ultrasound Bone Densitometry",
        "BI": "Biomagnetic Imaging",
        "BMD": "Bone Mineral Densitometry",
        "CR": "Computed Radiography",
        "CT": "Computed Tomography",
        "DG": "Diaphanography",
        "DMS": "Dermoscopy",
        "DX": "Digital Radiography",
        "ECG": "Electrocardiography",
        "EEG": "Electroencephalography",
        "EMG": "Electromyography",
        "EOG": "Electrooculography",
        "EPS": "Cardiac Electrophysiology",
        "ES": "Endoscopy",
        "GM": "General Microscopy",
        "HD": "Hemodynamic Waveform",
        "IO": "Intra-oral Radiography",
        "IVOCT": "Intravascular Optical Coherence Tomography",
        "IVUS": "Intravascular Ultrasound",
        "KER": "Keratometry",
        "LEN": "Lensometry",
        "LS": "Surface Scan",
        "MG": "Mammography",
        "MR": "Magnetic Resonance",
        "NM": "Nuclear Medicine",
        "OAM": "Ophthalmic Axial Measurements",
        "OCT": "Optical Coherence Tomography",
        "OP": "Ophthalmic Photography",
        "OPM": "Ophthalmic Mapping",
        "OPT": "Ophthalmic Tomography",
        "OPTBSV": "Ophthalmic Tomography B-scan Volume Analysis",
        "OPTENF": "Ophthalmic Tomography En Face",
        "OPV": "Ophthalmic Visual Field",
        "OSS": "Optical Surface Scanner",
        "POS": "Position Sensor",
        "PT": "Positron Emission Tomography",
        "PX": "Panoramic X-Ray",
        "RESP": "Respiratory Waveform",
        "RF": "Radiofluoroscopy",
        "RG": "Radiographic Imaging",
        "RTIMAGE": "RT Image",
        "SM": "Slide Microscopy",
        "SRF": "Subjective Refraction",
        "TG": "Thermography",
        "US": "Ultrasound",
        "VA": "Visual Acuity",
        "XA": "X-Ray Angiography",
        "XC": "External-camera Photography",
    }
)
